export declare function getGrammarEngine(options: { quiet?: boolean }): Promise<void>
