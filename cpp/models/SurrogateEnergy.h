#ifndef TIMEWARP_SURROGATE_ENERGY_H_
#define TIMEWARP_SURROGATE_ENERGY_H_

#include "BatchEnergy.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

class DeviceLoan;
struct ProposalBatch;

/**
 * An approximation to the potential energy: a TorchScript
 * module whose forward() takes positions (size x N x 3, in nm, single precision) and returns energies (size,
 * in kJ/mol, double precision).  What may compute on its device takes a DeviceLoan, as in ProposalModel.
 */
class EXPORT_TIMEWARP SurrogateEnergy : public BatchEnergy {
public:
    /**
     * @param content   the bytes of the TorchScript file
     */
    explicit SurrogateEnergy(const std::string& content);
    ~SurrogateEnergy() override;
    /**
     * Get the bytes of the TorchScript file.
     */
    const std::string& getContent() const;
    /**
     * Get the SHA-256 digest of the content.
     */
    const std::string& getSha256() const;
    std::string getDigest() const override {
        return getSha256();
    }
    std::string describe() const override {
        return "the surrogate's energy";
    }
    std::string getRemedy() const override {
        return "do without a surrogate";
    }
    /**
     * Run on a CUDA device if this build of torch can, else on the CPU.
     *
     * @param index   the index of the CUDA device, or -1 for the CPU
     */
    void useDevice(const DeviceLoan& loan, int index);
    void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms, const OpenMM::Vec3& origin,
                 std::vector<double>& energies) override;
    double compute(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& positions) override;

private:
    class Implementation;
    std::unique_ptr<Implementation> implementation;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_SURROGATE_ENERGY_H_*/
