/*
 * The main function of the tests of a platform: it loads the platform and runs what runTests() of the
 * feature's header lists, in each of the platform's precisions.
 */
#include "TimewarpTestUtilities.h"
#include <cstdlib>
#include <dlfcn.h>

void runTests(Platform& platform);

static void runInAllPrecisions(Platform& platform) {
    const std::vector<std::string>& names = platform.getPropertyNames();
    if (std::find(names.begin(), names.end(), "Precision") == names.end()) {
        runTests(platform);
        return;
    }
    for (const char* precision : {"single", "mixed", "double"}) {
        std::cout << precision << std::endl;
        platform.setPropertyDefaultValue("Precision", precision);
        runTests(platform);
    }
}

int main() {
    const std::string name = TIMEWARP_TEST_PLATFORM;
    try {
        // The model runs on the GPU if torch's CUDA library is loaded.

        const char* torchCuda = std::getenv("TIMEWARP_TORCH_CUDA");
        if (torchCuda != NULL && *torchCuda != 0 && dlopen(torchCuda, RTLD_NOW | RTLD_GLOBAL) == NULL)
            throw OpenMMException(dlerror());

        // The plugin adds its kernels to the platforms that are there when it is loaded.

        if (name != "Reference")
            Platform::loadPluginLibrary(TIMEWARP_OPENMM_PLUGINS "/libOpenMM" + name + ".so");
        Platform::loadPluginLibrary(TIMEWARP_REFERENCE_LIBRARY);
        if (name != "Reference" && name != "CPU")
            Platform::loadPluginLibrary(TIMEWARP_PLATFORM_LIBRARY);
        runInAllPrecisions(Platform::getPlatformByName(name));
    }
    catch (const std::exception& error) {
        std::cout << "exception: " << error.what() << std::endl;
        return 1;
    }
    std::cout << "Done" << std::endl;
    return 0;
}
