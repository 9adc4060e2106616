#include "TestTimewarpAllocations.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testAllocationsAreCounted(platform);
    testRejectionsDoNotAllocate(platform);
    testAcceptancesDoNotAllocate(platform);
    testLookAheadReusesMemory(platform);
}

int main() {
    return runOnPlatform("Reference");
}
