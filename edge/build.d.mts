export declare const workerPath: string

export declare const workerOptions: {
  name: string
  modules: true
  modulesRoot: string
  scriptPath: string
  compatibilityDate: string
  compatibilityFlags: string[]
  durableObjects: Record<string, { className: string; useSQLite: boolean }>
}

export declare function buildEdge(): Promise<void>
export declare function buildPage(): Promise<void>
