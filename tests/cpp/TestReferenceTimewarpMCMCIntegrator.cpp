#include "TestTimewarpMCMCIntegrator.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testChainDoesNotDependOnBatchSize(platform);
    testChainDoesNotDependOnStepsAtOnce(platform);
    testIdentityAcceptsEverything(platform);
    testFarFromOrigin(platform);
    testRejectionKeepsPositions(platform);
    testNonFiniteProposalsAreCounted(platform);
    testVelocities(platform);
    testCheckpoint(platform);
    testForceGroups(platform);
    testParameterChangeIsSeen(platform);
    testSerialization();
    testBadInput(platform);
}

int main() {
    return runOnPlatform("Reference");
}
