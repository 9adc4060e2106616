/*
 * Loads the platform under test and runs what runPlatformTests() of the including file runs, in each of the
 * platform's precisions.
 */
#include "TimewarpTestUtilities.h"
#include <cstdlib>
#include <dlfcn.h>

void runPlatformTests(Platform& platform);

int runOnPlatform(const std::string& name, const std::vector<std::string>& precisions = {""}) {
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
        Platform& platform = Platform::getPlatformByName(name);
        for (const std::string& precision : precisions) {
            if (!precision.empty()) {
                std::cout << precision << std::endl;
                platform.setPropertyDefaultValue("Precision", precision);
            }
            runPlatformTests(platform);
        }
    }
    catch (const std::exception& error) {
        std::cout << "exception: " << error.what() << std::endl;
        return 1;
    }
    std::cout << "Done" << std::endl;
    return 0;
}
