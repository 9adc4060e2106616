#ifndef TIMEWARP_BATCH_POSITIONS_H_
#define TIMEWARP_BATCH_POSITIONS_H_

#include "ProposalModel.h"
#include "TorchConversions.h"

namespace TimewarpPlugin {

/**
 * Get the positions of a batch of proposals, [size, N, 3] in double precision (nm).
 *
 * @param origin   what they are relative to in the batch (nm)
 * @param device   where the model runs
 */
inline torch::Tensor batchPositions(const ProposalBatch& batch, int numAtoms, const OpenMM::Vec3& origin,
                                    torch::Device device) {
    const std::vector<int64_t> shape{batch.size, numAtoms, 3};
    torch::Tensor shift = positionsTensor({origin}, torch::kFloat64).to(device);
    if (batch.onDevice.address == nullptr)
        return at::from_blob(const_cast<double*>(batch.positions.data()), shape, torch::kFloat64).to(device) +
               shift;
    auto type = batch.onDevice.isDouble ? torch::kFloat64 : torch::kFloat32;
    auto options = torch::TensorOptions(device).dtype(type);
    return at::from_blob(const_cast<void*>(batch.onDevice.address), shape, options) + shift;
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BATCH_POSITIONS_H_*/
