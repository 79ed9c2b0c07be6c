declare namespace Cloudflare {
  interface Env extends Required<import('../../edge/env.ts').Env> {}
}
