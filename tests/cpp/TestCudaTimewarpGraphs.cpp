#include "TestTimewarpGraphs.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    Context context(*system, integrator, platform);
    if (integrator.getModelDevice() == "cpu")
        assertRefused(platform, "torch is a build without CUDA");
    else
        testSameDecisionsWithGraphs(platform);
}

int main() {
    return runOnPlatform("CUDA", {"double", "mixed", "single"});
}
