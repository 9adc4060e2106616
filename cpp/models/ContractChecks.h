#ifndef TIMEWARP_CONTRACT_CHECKS_H_
#define TIMEWARP_CONTRACT_CHECKS_H_

#include "FlowModule.h"
#include "KeptMotions.h"
#include "ModelMetadata.h"
#include "openmm/Vec3.h"
#include <vector>

namespace TimewarpPlugin {

/** The contract's tolerances (docs/contract.md): log densities, and positions in nm. */
const double DENSITY_TOLERANCE = 1e-4;
const double INVERTIBILITY_TOLERANCE = 1e-5;

/**
 * Check on one small batch that a model's densities agree and the flow can be inverted, and throw an
 * exception if not.
 */
void checkContract(FlowModule& module, const ModelMetadata& metadata);
/**
 * Throw an exception if w or densities change when x is moved, or y does not move along.
 *
 * @param state    positions of a state, N (nm)
 * @param shifts   displacement of each atom, N (nm)
 */
void checkTranslationInvariance(FlowModule& module, const ModelMetadata& metadata,
                                const std::vector<OpenMM::Vec3>& state,
                                const std::vector<OpenMM::Vec3>& shifts);
/**
 * Find out which rigid motions the flow never makes, from one small batch.
 *
 * @param state        positions of a state, N (nm)
 * @param lagWeights   how often each lag time is picked; those of weight 0 do not count
 */
KeptMotions findKeptMotions(FlowModule& module, const ModelMetadata& metadata,
                            const std::vector<OpenMM::Vec3>& state, const std::vector<double>& lagWeights);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_CONTRACT_CHECKS_H_*/
