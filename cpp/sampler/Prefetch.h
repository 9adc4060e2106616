#ifndef TIMEWARP_PREFETCH_H_
#define TIMEWARP_PREFETCH_H_

#include "ProposalModel.h"
#include "RandomKey.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <cstdint>
#include <optional>
#include <vector>

namespace TimewarpPlugin {

/**
 * Which state of a block it is.  An independent draw is placed in the frame of the state it is made from, so
 * that draws hold in all states of that frame; other proposals hold in their own state only.
 */
struct BlockState {
    std::int64_t revision = 0, frame = 0;
};

/**
 * How an independent draw of a flow is correlated with the state in the flow's latent variables.
 */
struct LatentStep {
    /** Of the variables that are drawn. */
    double correlation = 0;
    /** The chance of each variable to be drawn; the others keep their values. */
    double share = 1;
    /** How many variables of rotatable torsions are drawn, all others keeping their values; 0 where the share
     * says what is drawn. */
    int torsions = 0;

    /** Get whether the draw knows anything of the state. */
    bool knowsState() const {
        return correlation != 0 || share != 1 || torsions != 0;
    }
    bool operator==(const LatentStep& other) const {
        return correlation == other.correlation && share == other.share && torsions == other.torsions;
    }
};

/** What is drawn for the iterations of a batch besides the model's inputs, one entry each. */
struct Draws {
    std::vector<double> logUniform;
    /** For the second test, where two energies decide. */
    std::vector<double> secondLogUniform;
    std::vector<double> lags;
    std::vector<LatentStep> latentSteps;
    /** Correlation of each of the D numbers of a proposal's noise with that of the state, [entries, D]; 0
     * where a draw knows nothing of it, and none at all if no draw does. */
    std::vector<double> correlations;
    /** Where the entries are alternatives to each other: D normal deviates that they have in common, by which
     * they know the state; else none. */
    std::vector<double> common;

    void resize(int size) {
        logUniform.resize(size);
        secondLogUniform.resize(size);
        lags.resize(size);
        latentSteps.resize(size);
        correlations.clear();
        common.clear();
    }
};

/**
 * A batch of proposals that was computed ahead: entry k is the proposal of iteration start+k, to be used if
 * what it was made from still holds.  It knows nothing of energies.
 */
class EXPORT_TIMEWARP Prefetch {
public:
    ProposalBatch batch;
    Draws draws;
    /** What they were made from (nm). */
    std::vector<OpenMM::Vec3> positions;
    OpenMM::Vec3 origin;
    BlockState madeFrom;

    std::int64_t getStart() const {
        return start;
    }
    /** Get the number of proposals; 0 if there are none. */
    std::int64_t getSize() const {
        return size;
    }
    /**
     * Get whether the proposals are there, and not only known to have been before a checkpoint was loaded or
     * the platform's memory was used for others.
     */
    bool isComputed() const {
        return key.has_value();
    }
    /**
     * Get whether they are those of other random numbers.
     */
    bool isOfOther(const RandomKey& current) const {
        return key.has_value() && !(*key == current);
    }
    /**
     * Get the number of the batch, by which others can say what they have computed for it.
     */
    std::int64_t getNumber() const {
        return number;
    }
    bool includes(std::int64_t iteration) const {
        return iteration < start + size;
    }
    /** There is a batch of proposals now. */
    void complete(std::int64_t newStart, std::int64_t newSize, const RandomKey& newKey) {
        start = newStart;
        size = newSize;
        key = newKey;
        number++;
    }
    /** There was one, which has to be computed again. */
    void recall(std::int64_t oldStart, std::int64_t oldSize) {
        start = oldStart;
        size = oldSize;
        key.reset();
    }
    void mustBeComputedAgain() {
        key.reset();
    }
    void discard() {
        size = 0;
        positions.clear();
    }

private:
    std::int64_t start = 0, size = 0, number = 0;
    std::optional<RandomKey> key;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PREFETCH_H_*/
