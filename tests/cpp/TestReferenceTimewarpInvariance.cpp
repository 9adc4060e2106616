#include "TestTimewarpInvariance.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testInvariance(platform);
    testInvarianceCanFail(platform);
}

int main() {
    return runOnPlatform("Reference");
}
