export declare const workerPath: string

export declare const workerOptions: {
  name: string
  modules: string[]
  compatibilityDate: string
  compatibilityFlags: string[]
  durableObjects: Record<string, { className: string }>
  ratelimits: Record<string, { simple: { limit: number; period: 10 | 60 } }>
}

export declare function buildEdge(): Promise<void>
export declare function buildPage(): Promise<void>
