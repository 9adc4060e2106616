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
    testParameterChangeIsSeen(platform);
    testBadInput(platform);
}

int main() {
    return runOnPlatform("CUDA", {"single", "mixed", "double"});
}
