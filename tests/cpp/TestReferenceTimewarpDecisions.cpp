#include "TestTimewarpDecisions.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testAnalyticAcceptanceRatio(1, platform);
    testAnalyticAcceptanceRatio(64, platform);
    testMeanAcceptanceRatio(AnharmonicWell(4), "affine", platform);
    testMeanAcceptanceRatio(AnharmonicWell(1), "tilted", platform);
    testMeanAcceptanceRatio(AnharmonicWell(1), "lags", platform);
    testMeanAcceptanceRatio(TorsionRing(1), "rotor", platform);
    testMeanAcceptanceRatio(DoubleWell(1), "sided", platform);
    testNonFiniteProposalsDoNotReachTheEnergy(platform);
    testStateThatCannotBeDrawn(platform);
    testVirtualSitesFollow(platform);
}

int main() {
    return runOnPlatform("Reference");
}
