#ifndef TIMEWARP_MCMC_INTEGRATOR_PROXY_H_
#define TIMEWARP_MCMC_INTEGRATOR_PROXY_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/serialization/SerializationProxy.h"

namespace TimewarpPlugin {

/**
 * This is a proxy for serializing TimewarpMCMCIntegrator objects.
 */
class EXPORT_TIMEWARP TimewarpMCMCIntegratorProxy : public OpenMM::SerializationProxy {
public:
    TimewarpMCMCIntegratorProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_MCMC_INTEGRATOR_PROXY_H_*/
