#include "TestTimewarpCheckpoints.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testResume(platform);
    testStateWithoutPositions(platform);
    testDamagedCheckpoints(platform);
    testForeignCheckpoints(platform);
    testImpossibleState(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
