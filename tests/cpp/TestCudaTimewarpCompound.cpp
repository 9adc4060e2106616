#include "TestTimewarpCompound.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testChangingIntegrator(platform);
    testNoStaleForces(platform);
    testSamplesWithDynamicsBetween(platform);
    testCompoundCheckpoint(platform);
}

int main() {
    return runOnPlatform("CUDA", {"single", "mixed", "double"});
}
