#include "TestTimewarpAgreement.h"
#include "TimewarpTestMain.h"
#include "openmm/common/ComputeContext.h"
#include "openmm/opencl/OpenCLPlatform.h"

std::vector<int> atomOrder(ContextImpl& context) {
    // Its own header needs those of the device's vendor; see OpenCLTimewarpKernelFactory.cpp.

    auto* data = static_cast<OpenCLPlatform::PlatformData*>(context.getPlatformData());
    return reinterpret_cast<ComputeContext*>(data->contexts[0])->getAtomIndex();
}

void runPlatformTests(Platform& platform) {
    testSameDecisions(platform);
    testReorderedAtoms(platform);
    if (platform.getPropertyDefaultValue("Precision") == "mixed")
        testMemoryDoesNotGrow(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"double", "mixed", "single"});
}
