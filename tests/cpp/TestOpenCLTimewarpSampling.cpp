#include "TestTimewarpSampling.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testTemperature(platform);
    testRandomSeed(platform);
    testInitialTemperature(platform);
    testForceGroups(platform);
    testBoltzmannHistogram(platform);
    testUpdateContextState(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
