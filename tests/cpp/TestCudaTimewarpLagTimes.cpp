#include "TestTimewarpLagTimes.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testLagWeights();
    testLagTimesArePickedAsSet(platform);
    testChangeDoesNotDependOnBatchSize(platform);
    testCheckpointHoldsLagWeights(platform);
}

int main() {
    return runOnPlatform("CUDA", {"single", "mixed", "double"});
}
