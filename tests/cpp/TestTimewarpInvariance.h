/*
 * Invariance tests in the manner of Gandy & Scott (arXiv 2001.06465): start from exact draws of the target,
 * apply a few iterations, and the result must have the distribution of exact draws.  False-alarm rate 1e-5
 * for each comparison.
 */
#include "TimewarpTestTargets.h"

const int NUM_DRAWS = 2000;

/**
 * Apply iterations to exact draws and compare energies and coordinates with other exact draws.
 *
 * @param temperature   the temperature that the integrator is told, TEMPERATURE for a correct chain
 */
void checkInvariance(const std::string& model, int batchSize, Platform& platform,
                     double temperature = TEMPERATURE) {
    AnharmonicWell well;
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath(model, well.numParticles));
    integrator.setTemperature(temperature);
    integrator.setBatchSize(batchSize);
    integrator.setRandomNumberSeed(17);
    Context context(*system, integrator, platform);
    std::mt19937 random(batchSize + 1);
    std::vector<double> energies, coordinates, exactEnergies, exactCoordinates;
    for (int i = 0; i < NUM_DRAWS; i++) {
        context.setPositions(well.drawPositions(random));
        integrator.step(4);
        State state = context.getState(State::Positions | State::Energy);
        energies.push_back(state.getPotentialEnergy());
        coordinates.push_back(state.getPositions()[0][0]);
        double energy = 0;
        std::vector<Vec3> exact = well.drawPositions(random);
        for (const Vec3& p : exact)
            energy += well.energy(p[0]) + well.energy(p[1]) + well.energy(p[2]);
        exactEnergies.push_back(energy);
        exactCoordinates.push_back(exact[0][0]);
    }
    assertSameDistribution(energies, exactEnergies);
    assertSameDistribution(coordinates, exactCoordinates);
    ASSERT(integrator.getNumProposed() == 4 * NUM_DRAWS);
}

void testInvariance(Platform& platform) {
    for (int batchSize : {1, 64})
        for (const char* model : {"affine", "anisotropic", "tilted", "badly_scaled", "lags", "broken"})
            checkInvariance(model, batchSize, platform);
}

/**
 * The test above must be able to fail: a chain at another temperature is told apart.
 */
void testInvarianceCanFail(Platform& platform) {
    assertThrows([&] { checkInvariance("lags", 64, platform, 2 * TEMPERATURE); }, "distributions differ");
}
