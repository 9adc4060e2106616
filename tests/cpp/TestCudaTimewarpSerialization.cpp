#include "TestTimewarpSerialization.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testEmbeddedModelRuns(platform);
}

int main() {
    return runOnPlatform("CUDA", {"single", "mixed", "double"});
}
