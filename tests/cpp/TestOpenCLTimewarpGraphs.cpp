#include "TestTimewarpGraphs.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    assertRefused(platform, "platform is not CUDA");
    testHostGraphs(platform);
    testWrongGraphs(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"double", "mixed", "single"});
}
