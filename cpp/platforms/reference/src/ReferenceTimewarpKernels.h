#ifndef REFERENCE_TIMEWARP_KERNELS_H_
#define REFERENCE_TIMEWARP_KERNELS_H_

#include "TimewarpKernels.h"
#include "openmm/Vec3.h"
#include <vector>

namespace TimewarpPlugin {

/**
 * TimewarpStateKernel for the Reference platform and those that derive from it (CPU).
 */
class ReferenceTimewarpStateKernel : public TimewarpStateKernel {
public:
    ReferenceTimewarpStateKernel(const std::string& name, const OpenMM::Platform& platform)
            : TimewarpStateKernel(name, platform) {
    }
    void initialize(const OpenMM::System& system, const BlockAtoms& atoms) override;
    void getPositions(OpenMM::ContextImpl& context, std::vector<OpenMM::Vec3>& positions) override;
    void savePositions(OpenMM::ContextImpl& context) override;
    void restorePositions(OpenMM::ContextImpl& context) override;
    bool positionsAreSaved(OpenMM::ContextImpl& context) override;
    void setProposals(OpenMM::ContextImpl& context, const std::vector<double>& positions,
                      const OpenMM::Vec3& origin) override;
    void applyProposal(OpenMM::ContextImpl& context, int proposal) override;
    void reorderAtoms(OpenMM::ContextImpl& context) override;
    void setVelocities(OpenMM::ContextImpl& context, const float* velocities, double kT) override;
    double computeKineticEnergy(OpenMM::ContextImpl& context) override;

private:
    BlockAtoms atoms;
    std::vector<int> particles;
    std::vector<double> masses;
    std::vector<OpenMM::Vec3> saved, proposals;
};

} // namespace TimewarpPlugin

#endif /*REFERENCE_TIMEWARP_KERNELS_H_*/
