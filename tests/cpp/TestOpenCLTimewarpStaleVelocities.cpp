#include "TestTimewarpStaleVelocities.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testStaleVelocitiesAreSeen(platform);
    testFreshVelocities(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
