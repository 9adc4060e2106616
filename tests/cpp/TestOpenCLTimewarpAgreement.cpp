#include "TimewarpTestAtomOrder.h"
#include "openmm/common/ComputeContext.h"
#include "openmm/opencl/OpenCLPlatform.h"

using namespace OpenMM;

/**
 * Its own header needs those of the device's vendor; see OpenCLTimewarpKernelFactory.cpp.
 */
static ComputeContext& deviceOf(ContextImpl& context) {
    auto* data = static_cast<OpenCLPlatform::PlatformData*>(context.getPlatformData());
    return *reinterpret_cast<ComputeContext*>(data->contexts[0]);
}

std::vector<int> atomOrder(ContextImpl& context) {
    return deviceOf(context).getAtomIndex();
}

void askForReordering(ContextImpl& context) {
    deviceOf(context).setStepsSinceReorder(250);
}
