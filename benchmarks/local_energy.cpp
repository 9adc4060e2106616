/*
 * How much screening costs: the local energies of 64 proposals for the side chain of capped valine in a box
 * of water, against full energies of the System on OpenMM's CPU platform, in turns.  Both may use as many
 * threads as OMP_NUM_THREADS and OPENMM_CPU_THREADS say.
 *
 * `make benchmark-local-energy` runs it.
 */
#include "LocalEnergy.h"
#include "ProposalModel.h"
#include "TimewarpTestLoan.h"
#include "TimewarpTestPeptides.h"
#include <algorithm>
#include <chrono>
#include <iostream>

using namespace OpenMM;
using TimewarpPlugin::LocalEnergy;
using TimewarpPlugin::ProposalBatch;
using TimewarpPlugin::SystemState;
using TimewarpPlugin::SystemTerms;

static const int NUM_TURNS = 21, BATCH = 64;

template <typename Work> double milliseconds(int count, Work work) {
    auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < count; i++)
        work(i);
    return 1e3 * std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() / count;
}

static std::string quantiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    auto at = [&](double part) { return std::to_string(values[part * (values.size() - 1)]); };
    return at(0.5) + " (median of " + std::to_string(values.size()) + "; half of them between " + at(0.25) +
           " and " + at(0.75) + ")";
}

int main(int argc, char* argv[]) {
    if (argc != 5) {
        std::cerr << "usage: local_energy TEST_DATA BOX_NM CPU_LIBRARY REFERENCE_LIBRARY" << std::endl;
        return 2;
    }
    Platform::loadPluginLibrary(argv[3]);
    Platform::loadPluginLibrary(argv[4]);
    const double width = std::stod(argv[2]);
    Peptide peptide = readPeptide(argv[1], "amber");
    addWater(peptide, {Vec3(width, 0, 0), Vec3(0, width, 0), Vec3(0, 0, width)});
    auto& force = peptide.force<NonbondedForce>();
    force.setNonbondedMethod(NonbondedForce::PME);
    force.setCutoffDistance(0.9);

    VerletIntegrator verlet(0.001);
    Context context(*peptide.system, verlet, Platform::getPlatformByName("CPU"));
    context.setPositions(peptide.positions);
    LendingContext lender(Platform::getPlatformByName("Reference"));
    std::vector<int> particles(peptide.numSolute);
    std::iota(particles.begin(), particles.end(), 0);
    std::vector<int> moved = peptide.sideChain;
    moved.push_back(peptide.beta);
    auto terms = std::make_shared<SystemTerms>(*peptide.system, -1);
    LocalEnergy local(terms, particles, moved);
    auto state = std::make_shared<SystemState>();
    state->positions = peptide.positions;
    context.getState(State::Positions).getPeriodicBoxVectors(state->box[0], state->box[1], state->box[2]);

    std::mt19937 random(1);
    ProposalBatch batch;
    batch.size = BATCH;
    std::vector<std::vector<Vec3>> proposals;
    for (int i = 0; i < BATCH; i++) {
        proposals.push_back(propose(peptide, moved, random));
        for (int atom = 0; atom < peptide.numSolute; atom++)
            for (int k = 0; k < 3; k++)
                batch.positions.push_back(proposals.back()[atom][k]);
    }
    std::vector<Vec3> one(peptide.positions.begin(), peptide.positions.begin() + peptide.numSolute);
    std::vector<double> energies, full, screened, single, shares;
    for (int i = 0; i < NUM_TURNS; i++) {
        full.push_back(milliseconds(16, [&](int k) {
            context.setPositions(proposals[k]);
            context.getState(State::Energy).getPotentialEnergy();
        }));
        screened.push_back(milliseconds(4,
                                        [&](int) {
                                            local.setState(lender.lend(), state);
                                            local.compute(lender.lend(), batch, peptide.numSolute, Vec3(),
                                                          energies);
                                        }) /
                           BATCH);
        single.push_back(milliseconds(4, [&](int) { local.compute(lender.lend(), one); }));
        shares.push_back(screened.back() / full.back());
    }
    std::cout << peptide.positions.size() << " particles, " << moved.size() << " moved, batches of " << BATCH
              << std::endl
              << "full energy / ms:                 " << quantiles(full) << std::endl
              << "local energy of a proposal / ms:  " << quantiles(screened) << std::endl
              << "local energy of a state / ms:     " << quantiles(single) << std::endl
              << "proposal's share of full energy:  " << quantiles(shares) << std::endl;
    return 0;
}
