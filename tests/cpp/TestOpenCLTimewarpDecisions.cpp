#include "TestTimewarpDecisions.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testAnalyticAcceptanceRatio(1, platform);
    testAnalyticAcceptanceRatio(64, platform);
    testMeanAcceptanceRatio(AnharmonicWell(1), "affine", platform);
    testBalanceOfAcceptanceRatios(AnharmonicWell(1), "lags", platform);
    testBalanceOfAcceptanceRatios(AnharmonicWell(1), "tilted", platform);
    testBalanceOfAcceptanceRatios(AnharmonicWell(4), "random", platform);
    testBalanceOfAcceptanceRatios(TorsionRing(1), "rotor", platform);
    testBalanceOfAcceptanceRatios(DoubleWell(1), "sided", platform);
    testNonFiniteProposalsDoNotReachTheEnergy(platform);
    testStateThatCannotBeDrawn(platform);
    testVirtualSitesFollow(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
