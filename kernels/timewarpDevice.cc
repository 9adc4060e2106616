/*
 * Takes proposals from a model that runs on the same device (CUDA, where a kernel can be given the address of
 * any memory).
 */

/**
 * Keep the proposals of a batch, which the model gives relative to an origin.  Added in double precision, and
 * then rounded once, as on the host.
 */
KERNEL void takeFloatProposals(GLOBAL const float* RESTRICT source, GLOBAL mixed* RESTRICT proposals, double originX,
        double originY, double originZ, int numAtoms) {
    for (int i = GLOBAL_ID; i < numAtoms; i += GLOBAL_SIZE) {
        proposals[3*i] = (mixed) (originX+source[3*i]);
        proposals[3*i+1] = (mixed) (originY+source[3*i+1]);
        proposals[3*i+2] = (mixed) (originZ+source[3*i+2]);
    }
}

/**
 * The same for a model in double precision.
 */
KERNEL void takeDoubleProposals(GLOBAL const double* RESTRICT source, GLOBAL mixed* RESTRICT proposals, double originX,
        double originY, double originZ, int numAtoms) {
    for (int i = GLOBAL_ID; i < numAtoms; i += GLOBAL_SIZE) {
        proposals[3*i] = (mixed) (originX+source[3*i]);
        proposals[3*i+1] = (mixed) (originY+source[3*i+1]);
        proposals[3*i+2] = (mixed) (originZ+source[3*i+2]);
    }
}
