#include "ReferenceTimewarpKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/PluginInitializer.h"
#include "openmm/reference/ReferencePlatform.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

/**
 * Makes the kernels of the Reference platform.
 */
class ReferenceTimewarpKernelFactory : public KernelFactory {
public:
    KernelImpl* createKernelImpl(string name, const Platform& platform, ContextImpl& context) const override {
        if (name == TimewarpStateKernel::Name())
            return new ReferenceTimewarpStateKernel(name, platform);
        throw OpenMMException("Tried to create kernel with illegal kernel name '" + name + "'");
    }
};

extern "C" EXPORT_TIMEWARP void registerPlatforms() {
}

extern "C" EXPORT_TIMEWARP void registerKernelFactories() {
    // The CPU platform derives from the Reference one and keeps positions and velocities in the same arrays.

    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (dynamic_cast<ReferencePlatform*>(&platform) != NULL)
            platform.registerKernelFactory(TimewarpStateKernel::Name(), new ReferenceTimewarpKernelFactory());
    }
}
