#include "TestTimewarpSurrogate.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    runSurrogateTests(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
