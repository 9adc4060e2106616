#include "TestTimewarpInvariance.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testAnharmonicWell(platform);
    testDoubleWell(platform);
    testTorsionRing(platform);
    testCoupledOscillators(platform);
    testRestartInTheMiddle(platform);
    testInvarianceCanFail(platform);
}

int main(int argc, char* argv[]) {
    // In all precisions with `make test-long`.

    return runOnPlatform("OpenCL", argumentsOr({"single"}, argc, argv));
}
