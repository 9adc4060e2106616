#include "CudaTimewarpKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/PluginInitializer.h"
#include "openmm/internal/ContextImpl.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

/**
 * Makes the kernels of the CUDA platform.
 */
class CudaTimewarpKernelFactory : public KernelFactory {
public:
    KernelImpl* createKernelImpl(string name, const Platform& platform, ContextImpl& context) const override {
        CudaContext& cu = *static_cast<CudaPlatform::PlatformData*>(context.getPlatformData())->contexts[0];
        if (name == TimewarpStateKernel::Name())
            return new CudaTimewarpStateKernel(name, platform, cu);
        throw OpenMMException("Tried to create kernel with illegal kernel name '" + name + "'");
    }
};

extern "C" EXPORT_TIMEWARP void registerPlatforms() {
}

extern "C" EXPORT_TIMEWARP void registerKernelFactories() {
    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (platform.getName() == "CUDA")
            platform.registerKernelFactory(TimewarpStateKernel::Name(), new CudaTimewarpKernelFactory());
    }
}
