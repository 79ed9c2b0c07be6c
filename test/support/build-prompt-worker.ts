import { bundleCommand } from '../../cli/setup/bundle.mjs'

/** The processes that encode prompts run from dist/, also in tests of the sources. */
export default bundleCommand
