#ifndef TIMEWARP_LOCAL_SCREENING_H_
#define TIMEWARP_LOCAL_SCREENING_H_

#include "BatchEnergy.h"
#include "KnownState.h"
#include "LocalEnergy.h"
#include "SystemState.h"
#include "internal/windowsExportTimewarp.h"
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * Where everything is in the current state of a Target: looked up once for all blocks of a chain.
 */
class EXPORT_TIMEWARP SharedSystemState {
public:
    /**
     * Get it.  It is the same object as before if nothing is elsewhere.
     */
    std::shared_ptr<const SystemState> get(const Target& target);

private:
    Known<std::shared_ptr<const SystemState>> state;
    /** Kept so that a look need not allocate any. */
    SystemState found;
};

/**
 * Tests the proposals of a block with its local energy.
 */
class EXPORT_TIMEWARP LocalScreening : public BatchEnergy {
public:
    LocalScreening(std::unique_ptr<LocalEnergy> energy, std::shared_ptr<SharedSystemState> state);
    std::string getDigest() const override;
    bool feelsSurroundings() const override {
        return true;
    }
    bool lookAtSurroundings(const DeviceLoan& loan, const Target& target) override;
    void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms, const OpenMM::Vec3& origin,
                 std::vector<double>& energies) override;
    double compute(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& positions) override;
    std::string describe() const override {
        return "the local energy of a block";
    }
    std::string getRemedy() const override {
        return "call setScreening(False)";
    }

private:
    std::unique_ptr<LocalEnergy> energy;
    std::shared_ptr<SharedSystemState> state;
    std::shared_ptr<const SystemState> seen;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_LOCAL_SCREENING_H_*/
