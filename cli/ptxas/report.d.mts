/** One function, compiled for one architecture. */
export interface KernelReport {
  /** Its mangled name. */
  symbol: string
  /** Such as sm_80. */
  architecture: string
  /** False: a function that was not inlined into its kernels; it has no registers of its own. */
  isKernel: boolean
  /** Per thread. */
  registers: number
  /** Per thread: spilled registers, and arrays that are indexed at run time. */
  stackBytes: number
  /** Stored and loaded per thread. */
  spillBytes: number
  /** Static shared memory of a block. */
  sharedBytes: number
  /** If ptxas does not take the kernel's wgmma as they are, but adds waits: what it says. */
  changedWgmma?: string
}

/**
 * The functions in the output of nvcc -Xptxas -v, for one or more architectures. Throws Error where the report of a
 * function is not complete: nothing may pass because it was not understood.
 */
export function parseReport(text: string): KernelReport[]

/** The threads of a block that each kernel of a PTX file is compiled for, by mangled name: those of its launch bounds. */
export function parseThreads(ptx: string): Map<string, number>

/** `void apar::cuda::(anonymous namespace)::f<apar::cuda::X<4> >(int)`: `f<X<4>>`. */
export function shortName(demangled: string): string
