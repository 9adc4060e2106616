#ifndef TIMEWARP_MCMC_INTEGRATOR_H_
#define TIMEWARP_MCMC_INTEGRATOR_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Integrator.h"
#include "openmm/Kernel.h"
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

class BatchEnergy;
class Chain;
class ConstraintMetric;
class DelayedAcceptance;
class DeviceLoan;
class FlowMove;
class Move;
class ProcessOfOrigin;
class ProposalModel;
class ReplicaNumbers;
class SharedSystemState;
class SurrogateEnergy;
class SystemTerms;
class TimewarpStateKernel;
struct BlockAtoms;
struct BlockSurroundings;
struct KeptMotions;
struct MoveCounters;

/**
 * This is an Integrator which samples the Boltzmann distribution of a System by Metropolis-Hastings Monte
 * Carlo.  Proposals are made by a conditional normalising flow (Timewarp: Klein et al., NeurIPS 2023,
 * arXiv 2302.01170), a TorchScript model loaded from a file.  One call to step(n) performs exactly n steps.
 * A step proposes a state and accepts or rejects it with the System's energy: one proposal of the flow, or
 * with a surrogate (see setSurrogate()) the end of a subchain of them.  A step that is rejected leaves the
 * positions as they were, and counts.
 *
 * The sampled distribution is exact whatever the model has learned: the quality of the model determines
 * only the acceptance rate.  The trajectory is not a dynamical one.
 *
 * Any part of a System can be moved: see addBlock().  With setDynamics() molecular dynamics move everything
 * between the proposals, as a LangevinMiddleIntegrator does.
 *
 * After each call to step() the velocities of the Context are a fresh draw from the Maxwell-Boltzmann
 * distribution: they are the auxiliary velocities of the last proposal, multiplied by sqrt(kT/m).  If the
 * System has a CMMotionRemover, they have no total momentum.  With dynamics the particles of a block get new
 * velocities only when a proposal has moved them.
 */
class EXPORT_TIMEWARP TimewarpMCMCIntegrator : public OpenMM::Integrator {
public:
    /**
     * Create a TimewarpMCMCIntegrator.  The temperature is set to the one the model was trained for, and the
     * step size to its nominal lag time.
     *
     * @param modelPath   the path of the TorchScript model
     */
    explicit TimewarpMCMCIntegrator(const std::string& modelPath);
    /**
     * Create a TimewarpMCMCIntegrator from the content of a model file instead of the file itself.  The model
     * is then embedded when the integrator is serialized.
     *
     * @param modelPath      what to call the model; no file of that name is needed
     * @param modelContent   the bytes of the TorchScript model
     */
    TimewarpMCMCIntegrator(const std::string& modelPath, const std::string& modelContent);
    /**
     * Create a TimewarpMCMCIntegrator without a model.  See addBlock() and setDynamics(), of which at least
     * one must be called.
     *
     * @param temperature   the temperature of the sampled distribution (in Kelvin)
     */
    explicit TimewarpMCMCIntegrator(double temperature);
    ~TimewarpMCMCIntegrator() override;
    /**
     * Add a part of the System whose atoms a model moves, together with the rest of the chain.  Blocks may
     * have atoms in common.  A model that is added several times is loaded once.  This must be called before
     * a Context is created.
     *
     * @param modelPath   the path of the TorchScript model
     * @param particles   the particle of each of the model's atoms; those that the model does not move are
     * seen by it and stay where they are
     * @param weight      how often a proposal is of this block, in proportion to the weights of the others;
     * with 0 it is never tried
     * @return the index of the block
     */
    int addBlock(const std::string& modelPath, const std::vector<int>& particles, double weight = 1.0);
    /**
     * As addBlock(), from the content of a model file instead of the file itself.
     *
     * @param modelPath      what to call the model; no file of that name is needed
     * @param modelContent   the bytes of the TorchScript model
     */
    int addBlock(const std::string& modelPath, const std::string& modelContent,
                 const std::vector<int>& particles, double weight = 1.0);
    /**
     * Get whether the integrator was created with a model, which is block 0.
     */
    bool getHasModel() const;
    /**
     * Get the number of blocks.  The model that the integrator was created with is block 0.
     */
    int getNumBlocks() const;
    /**
     * Get the path of a block's model.
     */
    const std::string& getBlockModelPath(int index) const;
    /**
     * Get the content of a block's model file, as it was when the block was added.
     */
    const std::string& getBlockModelContent(int index) const;
    /**
     * Get the SHA-256 digest of a block's model file, as 64 hexadecimal digits.
     */
    const std::string& getBlockModelSha256(int index) const;
    /**
     * Get the particle of each atom of a block's model; an empty vector means that atom i is particle i.
     */
    const std::vector<int>& getBlockParticles(int index) const;
    /**
     * Get how often proposals are of a block, in proportion to the weights of the others.
     */
    double getBlockWeight(int index) const;
    /**
     * Get the number of proposals of a block that were tried so far.  With a surrogate, of subchains of them.
     */
    long long getBlockNumTried(int index) const;
    /**
     * Get the number of them that have moved the state.
     */
    long long getBlockNumAccepted(int index) const;
    /**
     * Get the number of a block's proposals that another energy has rejected before the System's was asked
     * for: a surrogate, or the block's local energy.
     */
    long long getBlockNumScreened(int index) const;
    /**
     * Get the number of a block's proposals that were rejected because something was not finite.
     */
    long long getBlockNumNonFinite(int index) const;
    /**
     * Get whether proposals of blocks are tested with a local energy first.  See setScreening() for details.
     */
    bool getScreening() const;
    /**
     * Set whether proposals of blocks of a larger System are tested with a local energy first (by default
     * they are).  It is made of the System's own Forces: of all terms that contain a moved atom, without what
     * reaches farther than a cut-off or depends on all particles.  The potential energy is computed for those
     * that pass only, and accepts or rejects them such that the sampled distribution is the same.  A
     * surrogate takes its place.  This must be called before a Context is created.
     */
    void setScreening(bool use);
    /**
     * Get how far the centre of a molecule goes in a rigid move at most (in nm).
     */
    double getRigidTranslation() const;
    /**
     * Get by what angle a rigid move turns a molecule at most (in radians).
     */
    double getRigidRotation() const;
    /**
     * Set how far rigid moves go.  A model of a molecule's shape alone leaves it where it lies.  Where the
     * energy depends on that (a restraint, a field, other molecules, periodic images) and nothing else moves
     * the molecule, there is a small random displacement or turn of it for each of the block's proposals,
     * which is accepted or rejected by a test of its own.  They come in rounds of eight, after the first of
     * eight proposals.  How far it goes is drawn each time,
     * log-uniformly from two decades up to what is set here.  Where the energy does not depend on it, nothing
     * is done.  Once rigid moves have begun in a Context, they go on.
     *
     * With 0 there are none of the kind, and step() throws an exception where they would be needed.  This
     * must be called before a Context is created.
     *
     * @param maxTranslation   the largest displacement (in nm); the default is 0.2
     * @param maxRotation      the largest turn (in radians, at most pi, which is the default)
     */
    void setRigidMoves(double maxTranslation, double maxRotation);
    /**
     * Get the number of rigid moves of a block that were tried so far.
     */
    long long getBlockNumRigidTried(int index) const;
    /**
     * Get the number of them that were accepted.
     */
    long long getBlockNumRigidAccepted(int index) const;
    /**
     * Set molecular dynamics that are done in each step before proposals are tried: those of a
     * LangevinMiddleIntegrator with the same settings.  They have the error of their time step, as all
     * unadjusted dynamics do; proposals alone have none.  This must be called before a Context is created.
     *
     * @param steps           the number of time steps, or 0 (the default) for none
     * @param stepSize        the time step (in picoseconds)
     * @param frictionCoeff   the friction coefficient (in inverse picoseconds)
     */
    void setDynamics(int steps, double stepSize, double frictionCoeff);
    /**
     * Get the number of time steps of dynamics in each step.
     */
    int getDynamicsSteps() const;
    /**
     * Get the time step of the dynamics (in picoseconds).
     */
    double getDynamicsStepSize() const;
    /**
     * Get the friction coefficient of the dynamics (in inverse picoseconds).
     */
    double getDynamicsFriction() const;
    /**
     * Get the number of proposals that are tried in one step.
     */
    int getProposalsPerStep() const;
    /**
     * Set the number of proposals that are tried in one step (the default is 1), each of a block that is
     * picked by the blocks' weights.  It can be 0 where steps do dynamics.
     */
    void setProposalsPerStep(int proposals);
    /**
     * Get the number of blocks in each try.  See setBlocksPerTry() for details.
     */
    int getBlocksPerTry() const;
    /**
     * Set the number of blocks in each try (the default is 1).  They are picked by their weights, run their
     * subchains one after the other by their local energies, and the System's energy decides on all of them
     * at once.  That is for many blocks of a large System, whose energy costs much more than local ones.  All
     * blocks must be screened, and without dynamics none may be a whole molecule.
     */
    void setBlocksPerTry(int blocks);
    /**
     * Get whether particles may stay where they are for ever.  See setFrozenOthers() for details.
     */
    bool getFrozenOthers() const;
    /**
     * Set whether particles that nothing moves are left where they are: neither this integrator's blocks and
     * dynamics, nor another integrator of a CompoundIntegrator.  By default they are an error when a Context
     * is created, because the chain then does not sample the System's Boltzmann distribution, but that of the
     * moved particles among frozen ones.
     */
    void setFrozenOthers(bool frozen);
    /**
     * Get the path of the TorchScript model.
     */
    const std::string& getModelPath() const;
    /**
     * Get the content of the model file, as it was when the integrator was created.
     */
    const std::string& getModelContent() const;
    /**
     * Get the SHA-256 digest of the model file, as 64 hexadecimal digits.
     */
    const std::string& getModelSha256() const;
    /**
     * Get whether the model itself is stored when the integrator is serialized.  See setEmbedModel() for
     * details.
     */
    bool getEmbedModel() const;
    /**
     * Set whether the model itself is stored when the integrator is serialized.  If not (the default), its
     * path and SHA-256 digest are, and deserializing needs that very file.
     */
    void setEmbedModel(bool embed);
    /**
     * Get the temperature of the sampled distribution (in Kelvin).
     */
    double getTemperature() const;
    /**
     * Set the temperature of the sampled distribution (in Kelvin).  The proposals remain those of the
     * temperature the model was trained for, so moving far from it costs acceptance.
     */
    void setTemperature(double temperature);
    /**
     * Get the lag times that proposals are made for (in ps).  Infinity stands for an independent draw.
     */
    const std::vector<double>& getLagTimes() const;
    /**
     * Get how often each of the lag times is picked.  See setLagWeights() for details.
     */
    const std::vector<double>& getLagWeights() const;
    /**
     * Set how often each of the lag times is picked.  Every proposal picks one at random, in proportion to
     * these weights, and whatever they are the sampled distribution is the same.  The default are the weights
     * that the model states.
     *
     * @param weights    a weight for each of the lag times; none negative, and not all of them 0
     */
    void setLagWeights(const std::vector<double>& weights);
    /**
     * Get the correlations of proposals with the state in the flow's latent variables.
     */
    const std::vector<double>& getLatentCorrelations() const;
    /**
     * Get how often each of the latent correlations is picked.
     */
    const std::vector<double>& getLatentCorrelationWeights() const;
    /**
     * Get the share of the latent variables that is drawn with each of the latent correlations.
     */
    const std::vector<double>& getLatentShares() const;
    /**
     * Get the number of torsions' latent variables that are drawn with each of the latent correlations, 0
     * where the share says what is drawn.
     */
    const std::vector<int>& getLatentTorsions() const;
    /**
     * Set how independent draws of a flow (infinite lag time) are correlated with the state.  A flow f that
     * has made the state of normal deviates z proposes f(rho z + sqrt(1 - rho^2) xi), xi being fresh ones.
     * With rho = 0 (the default) that is an independent draw.  Where few of these are accepted, the small
     * steps of a rho near 1 are accepted more often, and so are those that draw a few of the numbers in z
     * only, which change a few coordinates of the molecule and leave the others nearly as they are.  Most of
     * all that holds for those that draw one or two of the numbers that make rotatable torsions.  The
     * sampled distribution is the same.  This must be called before a Context is created.
     *
     * @param correlations   values of rho, at least 0 and less than 1; none for independent draws only
     * @param weights        how often each is picked, in proportion; none negative, and not all of them 0
     * @param shares         the chance of each number in z to be drawn, above 0 and at most 1, for each rho;
     * the others keep their values.  None if all are drawn
     * @param torsions       for each rho, how many of the model's rotatable torsions are drawn, picked at
     * random for each proposal, while all other numbers in z keep their values; all of the torsions if there
     * are no more.  0 where the share says what is drawn, and else the share must be 1.  None if all are 0
     */
    void setLatentCorrelations(const std::vector<double>& correlations, const std::vector<double>& weights,
                               const std::vector<double>& shares = std::vector<double>(),
                               const std::vector<int>& torsions = std::vector<int>());
    /**
     * Get the number of proposals that are computed together.  0 means that it adapts to the acceptance rate.
     */
    int getBatchSize() const;
    /**
     * Set the number of proposals that are computed together.  A batch is prefetched: it holds the proposals
     * of the coming iterations for the case that those before them are rejected.  The sampled chain does not
     * depend on it, apart from rounding in matrix products.
     *
     * @param size    the number of proposals, or 0 (the default) to adapt to the acceptance rate
     */
    void setBatchSize(int size);
    /**
     * Get the random number seed that was set: with setRandomNumberSeed(), or else in the run whose State or
     * checkpoint was loaded.  0 means that none was, and that the Context has picked one.  See
     * setRandomNumberSeed() for details.
     */
    int getRandomNumberSeed() const;
    /**
     * Set the random number seed.  The precise meaning of this parameter is undefined, and is left up to each
     * Platform to interpret in an appropriate way.  If two simulations are run with the same seed, platform,
     * number of threads and batch size, they will generate the same chain.  The integrators in a
     * CompoundIntegrator have random numbers of their own, also if they have the same seed.
     *
     * If seed is set to 0 (which is the default value assigned), a unique seed is chosen when a Context is
     * created from this Integrator.  This is done to ensure that each Context receives unique random seeds
     * without you needing to set them explicitly.
     *
     * A State and a checkpoint hold the seed of the run that wrote them.  Loading a checkpoint continues that
     * run bit for bit, whatever seed was set before.  So does loading a State if no seed was set.  If one
     * was, it is used instead, whether it was set before the State is loaded or after.  If a Context loads
     * one State several times, as replica exchange does at its start, each time but the first begins a run of
     * its own.
     */
    void setRandomNumberSeed(int seed);
    /**
     * Get the indices of the particles of the System that the model's atoms correspond to.
     */
    const std::vector<int>& getParticles() const;
    /**
     * Set which particle of the System each atom of the model corresponds to.  An empty vector (the default)
     * means that atom i is particle i.  This must be called before a Context is created.
     */
    void setParticles(const std::vector<int>& particles);
    /**
     * Get how many particles the System must have, or 0 if that was not said.  See setTopologySize().
     */
    int getTopologySize() const;
    /**
     * Say how many particles the System has that the indices given to setParticles() are about.  A Context of
     * another System is refused, in which other particles, or a copy of the molecule, would be meant.
     * setParticles() forgets it.
     */
    void setTopologySize(int size);
    /**
     * Get whether the model's work is recorded as a CUDA graph.  See setUseCudaGraphs() for details.
     */
    bool getUseCudaGraphs() const;
    /**
     * Set whether the model's work is recorded as a CUDA graph (by default it is not).  A batch of proposals
     * is then made by one instruction to the GPU instead of thousands.  There is one graph for each batch
     * size, recorded at the first batch of that size and compared with the model's own results; a batch size
     * that adapts takes powers of two only.  The sampled chain is the same, apart from rounding.
     *
     * This must be called before a Context is created.  It needs a model that runs on a CUDA device
     * (otherwise creating the Context throws an exception) and that neither waits for the GPU nor decides by
     * the values of tensors (otherwise step() throws one).
     */
    void setUseCudaGraphs(bool use);
    /**
     * Get where the model runs, in torch's words: "cpu", or "cuda:0" in a Context of the CUDA platform if
     * this build of torch can use CUDA.
     */
    std::string getModelDevice() const;
    /**
     * Get the surrogate energy.  See setSurrogate() for details.
     */
    const std::string& getSurrogate() const;
    /**
     * Set an approximation to the potential energy with which proposals are tested first: a TorchScript
     * module that computes the energies of a whole batch of proposals at once.  The potential energy itself
     * is then computed once in every getSubchainLength() proposals, and only if any of them passed.
     *
     * The sampled distribution is that of the potential energy whatever the surrogate is.  How good it is
     * determines only how many steps are accepted.
     *
     * This must be called before a Context is created.
     *
     * @param content    the bytes of the TorchScript file, whose forward() takes positions (B x N x 3, in nm)
     * of the model's atoms and returns B energies (in kJ/mol); an empty string (the default) for none
     */
    void setSurrogate(const std::string& content);
    /**
     * Get the number of proposals that make up a try where another energy tests them first.
     */
    int getSubchainLength() const;
    /**
     * Set the number of proposals that make up a try where a surrogate or the local energy of a block tests
     * them first (the default is 1).  They are accepted or rejected one after the other with that energy,
     * and where this ends is accepted or rejected with the potential energy.  Latent steps that know the
     * state are made at once instead, as alternatives to it, and one of up to 64 of them, or the state, is
     * chosen.  Elsewhere a try is always one proposal.
     */
    void setSubchainLength(int length);
    /**
     * Get the fraction of the flows' proposals that the surrogate has accepted so far (0 before the first,
     * and without a surrogate).
     */
    double getSurrogateAcceptanceRate() const;
    /**
     * Get the number of steps performed so far: of states that were proposed to the System's energy.  With a
     * surrogate each is the end of a subchain of getSubchainLength() proposals of the flow.
     */
    long long getNumProposed() const;
    /**
     * Get the number of them that have moved the state.
     */
    long long getNumAccepted() const;
    /**
     * Get the number of the flow's proposals that were rejected because the model, the surrogate, or the
     * System's energy returned a value that is not finite.
     */
    long long getNumNonFinite() const;
    /**
     * Get the fraction of steps that have moved the state so far (0 before the first).
     */
    double getAcceptanceRate() const;
    /**
     * Advance the chain.
     *
     * @param steps   the number of steps to perform
     */
    void step(int steps) override;
    /**
     * Let a model or surrogate use any operator of TorchScript, also those that reach files or other
     * processes. Without this, such a file is refused when it is read, whether it comes by its path, by its
     * content or by the XML of an Integrator.  The same is done for the files that the environment variable
     * TIMEWARP_TRUSTED_FILES names, separated by commas.
     *
     * @param sha256   the SHA-256 digest of the file, as 64 hexadecimal digits
     */
    static void trustFile(const std::string& sha256);
    /**
     * Throw an exception if a TorchScript file would be refused: if it is damaged, or is not trusted and does
     * more than arithmetic.
     *
     * @param name      what to call it in messages
     * @param content   the bytes of the file
     */
    static void checkFile(const std::string& name, const std::string& content);
    /**
     * Set a function that step() of every integrator asks about ten times a second whether to stop.  If it
     * returns true, step(n) ends after the step that it is at, or at once if that is in a loop of the model's
     * code.  It is called by the thread that called step().
     *
     * @param check   the function, or NULL (the default) for none
     */
    static void setInterruptionCheck(bool (*check)());

protected:
    void initialize(OpenMM::ContextImpl& context) override;
    void cleanup() override;
    std::vector<std::string> getKernelNames() override;
    double computeKineticEnergy() override;
    bool kineticEnergyRequiresForce() const override;
    void createCheckpoint(std::ostream& stream) const override;
    void loadCheckpoint(std::istream& stream) override;
    void serializeParameters(OpenMM::SerializationNode& node) const override;
    void deserializeParameters(const OpenMM::SerializationNode& node) override;

private:
    struct Block;
    bool screens(OpenMM::ContextImpl& context, const Block& block) const;
    std::shared_ptr<BatchEnergy> makeScreening(OpenMM::ContextImpl& context, const BlockAtoms& atoms,
                                               Block& block);
    TimewarpMCMCIntegrator(const std::string& modelPath, std::shared_ptr<ProposalModel> model, bool embed);
    void setDefaults();
    int addBlock(const std::string& path, std::shared_ptr<ProposalModel> model,
                 const std::vector<int>& particles, double weight);
    std::shared_ptr<ProposalModel> modelOf(const std::string& path, const std::string& content) const;
    const Chain& requireChain() const;
    void requireOwnProcess() const;
    const Block& firstBlock() const;
    const Block& block(int index) const;
    void requireModel(const char* method) const;
    void requireNoContext(const char* method) const;
    std::vector<int> particlesOf(const Block& block, const OpenMM::System& system) const;
    BlockAtoms checkBlock(OpenMM::ContextImpl& context, const Block& block) const;
    void checkStepsDoSomething(int proposals) const;
    void checkWeights() const;
    void checkNothingIsFrozen(OpenMM::ContextImpl& context) const;
    void makeBlock(OpenMM::ContextImpl& context, const BlockAtoms& atoms, const ConstraintMetric& metric,
                   Block& block, int index);
    void chooseDevice(OpenMM::ContextImpl& context, TimewarpStateKernel& kernel, ProposalModel& model);
    std::unique_ptr<Move> withRigidMoves(std::unique_ptr<Move> shape, const BlockAtoms& atoms,
                                         const BlockSurroundings& surroundings, Block& block) const;
    MoveCounters countersOf(int block) const;
    MoveCounters rigidCountersOf(int block) const;
    KeptMotions keptByOthers(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                             const DeviceLoan& loan, const Block& of) const;
    KeptMotions keptBy(const std::vector<OpenMM::Vec3>& positions, const DeviceLoan& loan,
                       const Block& of) const;
    void takeLagWeights();
    bool embedModel, useCudaGraphs, frozenOthers, screening;
    double temperature;
    std::vector<double> lagWeights, latentCorrelations, latentWeights, latentShares;
    std::vector<int> latentTorsions;
    int batchSize, randomNumberSeed, subchainLength, proposalsPerStep, blocksPerTry;
    int dynamicsSteps;
    double dynamicsStepSize, dynamicsFriction;
    double rigidTranslation, rigidRotation;
    int topologySize;
    /** Whether the first block is the model that the integrator was created with. */
    bool hasModel;
    std::vector<std::unique_ptr<Block>> blocks;
    std::unique_ptr<ReplicaNumbers> replicas;
    std::unique_ptr<ProcessOfOrigin> origin;
    std::shared_ptr<SurrogateEnergy> surrogate;
    /** What the local energies of blocks are made of in the Context, and where everything is there. */
    std::shared_ptr<const SystemTerms> terms;
    std::shared_ptr<SharedSystemState> systemState;
    std::unique_ptr<Chain> chain;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_MCMC_INTEGRATOR_H_*/
