#include "TestTimewarpBarostat.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testBarostat(platform);
    testBarostatCanFail(platform);
    testPeriodicImages(platform);
    testModelMustBeInvariantToTranslation(platform);
}

int main() {
    return runOnPlatform("OpenCL", {"single", "mixed", "double"});
}
