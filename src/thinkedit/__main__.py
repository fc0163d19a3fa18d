from thinkedit.cli import main

main()
