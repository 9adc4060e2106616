#ifndef TIMEWARP_PROPOSAL_MODEL_H_
#define TIMEWARP_PROPOSAL_MODEL_H_

#include "KeptMotions.h"
#include "ModelMetadata.h"
#include "ProposalInputs.h"
#include "TimewarpGraphRecorder.h"
#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

class DeviceLoan;

struct KeptResults;

/**
 * Proposals of several iterations, all made from one state (x).  Arrays have one row per proposal, in the
 * order of the model's atoms.
 */
struct ProposalBatch {
    int size = 0;
    /** Proposed positions y (nm), size x 3N.  Those of context atoms are x as the model was given it, which
     * may be rounded to single precision. */
    std::vector<double> positions;
    /** Where the model runs on a device, positions are not in the array above but there. */
    struct {
        const void* address = nullptr;
        bool isDouble = false;
    } onDevice;
    /** Whether all positions and velocities are finite. */
    std::vector<char> isFinite;
    /** log q(y, w | x), and log N(w; 0, I) of the proposed velocities w; both of the moved atoms alone. */
    std::vector<double> logForward, logVelocities;
    /** log q(x, v | y), where v are the auxiliary velocities of the iteration, and log N(v; 0, I); of no
     * meaning for independent draws */
    std::vector<double> logReverse, logAuxiliary;
    /** Where the model keeps the proposed positions and velocities. */
    std::shared_ptr<KeptResults> kept;
};

/**
 * A source of proposals: a TorchScript module that follows the contract in docs/contract.md.  Those who use
 * it need not know how it is stored and run (FlowModule does).
 *
 * Whatever may compute on the device where the model runs takes a DeviceLoan, without which OpenMM and torch
 * would work on it in different CUDA contexts and at the same time.
 */
class EXPORT_TIMEWARP ProposalModel {
public:
    /**
     * Load a model and check that it honours the contract.
     *
     * @param path   the path of the TorchScript file
     */
    explicit ProposalModel(const std::string& path);
    /**
     * Make a model of the content of a file.
     *
     * @param name      what to call it in messages
     * @param content   the bytes of the TorchScript file
     */
    ProposalModel(const std::string& name, const std::string& content);
    ~ProposalModel();
    /**
     * Read the bytes of a model file.  Throws an exception if it cannot be opened.
     */
    static std::string readFile(const std::string& path);
    const ModelMetadata& getMetadata() const;
    /**
     * Run on a CUDA device if this build of torch can, else on the CPU.
     *
     * @param index   the index of the CUDA device, or -1 for the CPU
     */
    void useDevice(const DeviceLoan& loan, int index);
    /**
     * Get where it runs, in torch's words: "cpu", "cuda:0".
     */
    std::string getDevice() const;
    /**
     * Set whether proposals are made by repeating a recording of the model's work, one for each batch size.
     * Each is compared with the model itself when it is made.
     *
     * @param recorder   records work of the device that the model runs on, or is NULL (the default) if the
     *                   model is to be called each time
     */
    void setGraphRecorder(const DeviceLoan& loan, std::unique_ptr<TimewarpGraphRecorder> recorder);
    /**
     * Get whether it has a recorder.
     */
    bool usesGraphs() const;
    /**
     * Get the bytes of the TorchScript file, as they were when it was loaded.
     */
    const std::string& getContent() const;
    /**
     * Get the SHA-256 digest of the content.
     */
    const std::string& getSha256() const;
    /**
     * Throw an exception if the model's proposals do not move along when atoms are moved.
     *
     * @param x        positions of a state, N (nm)
     * @param shifts   displacement of each atom, N (nm)
     */
    void checkTranslationInvariance(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& x,
                                    const std::vector<OpenMM::Vec3>& shifts);
    /**
     * Find out which rigid motions its proposals never make.
     *
     * @param x            positions of a state, N (nm)
     * @param lagWeights   how often each lag time is picked
     */
    KeptMotions findKeptMotions(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& x,
                                const std::vector<double>& lagWeights);
    /**
     * Set which bonds keep the length that they have in x, in what propose() and independentLogDensity() do
     * from here on.  Their lengths are then no part of any density.
     *
     * @param indices   their places among the metadata's stretches; none to begin with
     */
    void setKeptStretches(const std::vector<int>& indices);
    /**
     * Get whether proposals of this lag time do not depend on the state, but for where context atoms lie, and
     * their auxiliary velocities on nothing.
     */
    bool isIndependentDraw(double lag) const;
    /**
     * Get the memory that the inputs of a batch of proposals are to be written to.
     *
     * @param size       the number of proposals
     * @param numAtoms   the number of atoms, N
     */
    ProposalInputs prepareInputs(const DeviceLoan& loan, int size, int numAtoms);
    /**
     * Write the positions of a state, N (nm), to the inputs.
     */
    void setState(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& x);
    /**
     * Make proposals from the inputs, with the density of each and of the move back.
     *
     * @param lags    lag time of each iteration (ps), as many as inputs were prepared for
     * @param batch   on exit, the proposals
     */
    void propose(const DeviceLoan& loan, const std::vector<double>& lags, ProposalBatch& batch);
    /**
     * Correlate the noise in the inputs with that of which the model would make the state: it becomes
     * rho z + sqrt(1 - rho^2) noise, z = f^-1(x).  What the noise holds of auxiliary velocities stays as
     * drawn.
     *
     * @param correlations   rho for each number of the noise of each proposal, [proposals, D], in [0, 1];
     * independent draws (lag = infinity) alone may have others than 0
     * @param common         where all proposals have the same correlations, D deviates xi: z is then
     * rho f^-1(x) + sqrt(1 - rho^2) xi for all of them, so that the state is as correlated with it as they
     * are. None if z is the state's
     */
    void correlateNoise(const DeviceLoan& loan, const std::vector<double>& correlations,
                        const std::vector<double>& common = std::vector<double>());
    /**
     * Put the positions of a batch that it has made, which may be on a device, into the array of the host.
     */
    void bringToHost(const DeviceLoan& loan, ProposalBatch& batch) const;
    /**
     * Get the velocities of one proposal of a batch that it has made, 3N (dimensionless).  Those of context
     * atoms have no meaning.
     */
    void getVelocities(const DeviceLoan& loan, const ProposalBatch& batch, int entry,
                       std::vector<float>& velocities) const;
    /**
     * Compute log q(x) of an independent draw (lag = infinity), auxiliary velocities left out.  Only for
     * models whose auxiliary velocities are not part of the flow.
     */
    double independentLogDensity(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& x);

private:
    class Implementation;
    /** Filled by the implementation, so it comes first. */
    ModelMetadata metadata;
    std::unique_ptr<Implementation> implementation;
    /** Which proposals of the last batch depend on the state. */
    std::vector<std::int64_t> conditional;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PROPOSAL_MODEL_H_*/
