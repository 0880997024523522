from benchmarks.scaling.study import main

main()
