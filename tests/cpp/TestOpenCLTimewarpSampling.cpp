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

int main(int argc, char* argv[]) {
    // In all precisions with `make test-long`.

    return runOnPlatform("OpenCL", argumentsOr({"mixed"}, argc, argv));
}
