#ifndef TIMEWARP_SCRIPT_CHECKS_H_
#define TIMEWARP_SCRIPT_CHECKS_H_

#include <map>
#include <set>
#include <string>
#include <torch/script.h>

namespace TimewarpPlugin {

/**
 * Checks of a file's code while it is still text, so that compiling it runs nothing: torch calls __setstate__
 * of a file's classes when it reads them, and computes what is constant when it compiles.  Throws an
 * exception that names what is refused.
 *
 * @param members   the members of the archive
 */
void checkCode(const std::map<std::string, std::string>& members);
/**
 * Checks of all functions as compiled, whether or not anything calls them: every operator must be an allowed
 * one, and no function may call itself or run to an unreasonable number of operations by calling others.
 */
void checkFunctions(const torch::jit::Module& module);
/**
 * Check that the values of all attributes are of the types that their classes declare.  Torch relies on it
 * and does not check.
 */
void checkAttributes(const torch::jit::Module& module);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_SCRIPT_CHECKS_H_*/
