#include "TestTimewarpGraphs.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    assertRefused(platform, "platform is not CUDA");
}

int main() {
    return runOnPlatform("OpenCL", {"mixed"});
}
