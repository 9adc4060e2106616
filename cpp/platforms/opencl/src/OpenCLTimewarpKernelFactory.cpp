#include "CommonTimewarpKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/PluginInitializer.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/opencl/OpenCLPlatform.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

/**
 * Get the device of a Context.  OpenCLContext derives from ComputeContext and nothing else, so a pointer to
 * one is a pointer to the other; its own header would say so, but needs Khronos' CL/opencl.h, which is in no
 * package on PyPI.
 */
static ComputeContext& deviceOf(ContextImpl& context) {
    auto* data = static_cast<OpenCLPlatform::PlatformData*>(context.getPlatformData());
    return *reinterpret_cast<ComputeContext*>(data->contexts[0]);
}

/**
 * Makes the kernels of the OpenCL platform.
 */
class OpenCLTimewarpKernelFactory : public KernelFactory {
public:
    KernelImpl* createKernelImpl(string name, const Platform& platform, ContextImpl& context) const override {
        if (name == TimewarpStateKernel::Name())
            return new CommonTimewarpStateKernel(name, platform, deviceOf(context));
        throw OpenMMException("Tried to create kernel with illegal kernel name '" + name + "'");
    }
};

extern "C" EXPORT_TIMEWARP void registerPlatforms() {
}

extern "C" EXPORT_TIMEWARP void registerKernelFactories() {
    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (platform.getName() == "OpenCL")
            platform.registerKernelFactory(TimewarpStateKernel::Name(), new OpenCLTimewarpKernelFactory());
    }
}
