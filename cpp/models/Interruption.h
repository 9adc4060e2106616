#ifndef TIMEWARP_INTERRUPTION_H_
#define TIMEWARP_INTERRUPTION_H_

#include "openmm/OpenMMException.h"
#include <string>

namespace torch::jit {
struct Graph;
}

namespace TimewarpPlugin {

/**
 * Thrown out of a model's code when the user wants to stop.
 */
class ModelInterrupted : public OpenMM::OpenMMException {
public:
    explicit ModelInterrupted(const std::string& what) : OpenMMException(what) {
    }
};

/**
 * Set a function that running code asks about ten times a second whether to stop, or NULL for none.
 */
void setModelInterruptionCheck(bool (*check)());
/**
 * Have a function ask at its start and in each round of its loops.  Torch's interpreter has no such point, so
 * a model whose loop never ends could not be stopped.
 */
void insertInterruptionPoints(torch::jit::Graph& graph);
/**
 * Get whether this thread has been stopped at an interruption point since this was last asked: torch replaces
 * what is thrown there by an exception of its own.
 */
bool takeModelInterruption();

/**
 * While it lives, a second Ctrl-C ends the process, whatever handles the first: a model may be inside a
 * single operation that takes hours.  In threads other than the main one it does nothing.
 */
class SecondInterruptKills {
public:
    SecondInterruptKills();
    ~SecondInterruptKills();
    SecondInterruptKills(const SecondInterruptKills&) = delete;
    SecondInterruptKills& operator=(const SecondInterruptKills&) = delete;

private:
    bool installed;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_INTERRUPTION_H_*/
