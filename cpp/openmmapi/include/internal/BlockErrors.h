#ifndef TIMEWARP_BLOCK_ERRORS_H_
#define TIMEWARP_BLOCK_ERRORS_H_

#include "openmm/OpenMMException.h"
#include <string>

namespace TimewarpPlugin {

/**
 * Call a function, and say of which block an exception is that leaves it.
 *
 * @param index      the number of the block
 * @param modelPath  the path of its model
 */
template <class Function> void namingBlock(int index, const std::string& modelPath, Function function) {
    try {
        function();
    }
    catch (const OpenMM::OpenMMException& error) {
        const std::string prefix = "Timewarp: ";
        std::string what = error.what();
        if (what.compare(0, prefix.size(), prefix) == 0)
            what.erase(0, prefix.size());
        throw OpenMM::OpenMMException(prefix + "block " + std::to_string(index) + " (" + modelPath +
                                      "): " + what);
    }
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BLOCK_ERRORS_H_*/
