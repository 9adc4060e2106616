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

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
