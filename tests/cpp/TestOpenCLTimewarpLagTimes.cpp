#include "TestTimewarpLagTimes.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testLagWeights();
    testLagTimesArePickedAsSet(platform);
    testChangeDoesNotDependOnBatchSize(platform);
    testCheckpointHoldsLagWeights(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
