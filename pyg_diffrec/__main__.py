from pyg_diffrec.cli import main

if __name__ == '__main__':
    main(prog_name='pyg-diffrec')
