/**
 * The nvcc of the PATH if it is of the release that is checked, else that of Python packages. `missing`: what to install
 * first; `output`: of pip, which could not install the packages.
 */
export function findNvcc(): Promise<
  { nvcc: string; source: string } | { missing: string } | { output: string }
>

/** What CMakeLists.txt compiles .cu files with, and for which architectures: `80;90a-real` are sm_80 and sm_90a. */
export function buildOptions(cmake?: string): { options: string[]; architectures: string[] }
