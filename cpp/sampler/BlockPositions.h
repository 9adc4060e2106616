#ifndef TIMEWARP_BLOCK_POSITIONS_H_
#define TIMEWARP_BLOCK_POSITIONS_H_

#include "TimewarpKernels.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Kernel.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include <cstdint>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * The positions of the particles of one block, as the Context has them and as the block has left them.
 */
class EXPORT_TIMEWARP BlockPositions {
public:
    /**
     * @param kernel   a TimewarpStateKernel, initialized
     */
    explicit BlockPositions(const OpenMM::Kernel& kernel) : kernel(kernel) {
    }
    TimewarpStateKernel& getKernel() const {
        return kernel.getAs<TimewarpStateKernel>();
    }
    /**
     * Get the positions of the current state (nm), in the order of the model's atoms.
     */
    const std::vector<OpenMM::Vec3>& get() const {
        return current;
    }
    /**
     * Get the number of the state's positions, by which others can say what they have computed of them.
     */
    std::int64_t getRevision() const {
        return revision;
    }
    /**
     * Get whether the Context's are bitwise the same.
     */
    bool areTheContexts(OpenMM::ContextImpl& context) const {
        return getKernel().positionsAreSaved(context);
    }
    /**
     * Take those of the Context.  Throws an exception, and takes none, if one is not finite.
     *
     * @param describe   gets what to call an atom in messages
     */
    template <class Function> void take(OpenMM::ContextImpl& context, Function describe) {
        getKernel().getPositions(context, previous);
        size_t bad = firstNotFinite(previous);
        if (bad < previous.size())
            refuse(describe(bad));
        current.swap(previous);
        revision++;
        getKernel().savePositions(context);
    }
    /**
     * Take those of the Context that has loaded a state, whatever they are: others than finite ones are
     * refused when they are looked at.
     */
    void load(OpenMM::ContextImpl& context);
    /**
     * Take those of the Context, which have been proposed and accepted: the platform may have rounded them.
     *
     * @return whether they are others than before
     */
    bool settle(OpenMM::ContextImpl& context);
    /**
     * Put the state's positions back into the Context, and virtual sites that depend on them.
     */
    void restore(OpenMM::ContextImpl& context) const;
    /**
     * Get the centroid (nm).
     */
    OpenMM::Vec3 getCentroid() const;

private:
    static size_t firstNotFinite(const std::vector<OpenMM::Vec3>& positions);
    [[noreturn]] static void refuse(const std::string& atom);
    mutable OpenMM::Kernel kernel;
    /** Of the state, and what was there before; both are kept so that a step need not allocate any. */
    std::vector<OpenMM::Vec3> current, previous;
    std::int64_t revision = 0;
};

/**
 * Compute a digest of positions; it is the same only if they are bitwise equal.
 */
std::string EXPORT_TIMEWARP digestOfPositions(const std::vector<OpenMM::Vec3>& positions);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BLOCK_POSITIONS_H_*/
