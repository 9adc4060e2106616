#ifndef TIMEWARP_BORN_SUMS_H_
#define TIMEWARP_BORN_SUMS_H_

#include "PairLoops.h"
#include "SystemState.h"
#include "internal/windowsExportTimewarp.h"
#include <memory>
#include <vector>

namespace TimewarpPlugin {

struct BornForm;

/**
 * The sums that the Born radii of all particles of a System are made of (see BornFunctions.h), in one state
 * after the other.  All blocks of a chain share them.
 */
class EXPORT_TIMEWARP BornSums {
public:
    /**
     * Get them (1/nm).
     *
     * @param form    whose they are; the same each time
     * @param state   of the System
     */
    const std::vector<double>& get(const BornForm& form, std::shared_ptr<const SystemState> state);

private:
    void computeAll(const BornForm& form);
    void update(const BornForm& form, const SystemState& from, const std::vector<int>& changed);
    void addTermsOf(const BornForm& form, int particle, int firstOther, double sign);

    std::shared_ptr<const SystemState> current;
    std::vector<double> sums;
    /** Where all are (nm). */
    Points points{0};
    int numUpdates = 0;
    /** Squared distances of one from the others (nm^2), and those within the cut-off. */
    std::vector<double> all, squares;
    std::vector<int> places;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BORN_SUMS_H_*/
