#include "TestTimewarpInputs.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testNormals(platform);
    testNormalDistribution(platform);
    testState(platform);
}

int main() {
    return runOnPlatform("Reference");
}
