;; trick: a count of 2^32 types in two bytes
;; end: refused 
(module binary "\00\61\73\6d\01\00\00\00\01\06\ff\ff\ff\ff\0f\60")
